"""What the notebooks of the course share: pictures, predictions, exercises and widgets.

::

    from prunekit import course

    course.show(course.figures.scoring.threshold(...), alt="What the picture shows.")
    course.predict("sparsity", "How many are pruned?", ["fewer than half", "half", "more than half"])
    course.reveal("sparsity", "half", "It was 0.500.")
    course.check("1.2", my_function)

Names are imported when they are first used.
"""

from ..system.lazy import make_lazy

make_lazy(
    __name__,
    {
        "COLORS": "style",
        "show": "style",
        "subplots": "style",
        "predict": "predict",
        "reveal": "predict",
        "check": "exercises",
        "grade": "exercises",
        "ready": "ready",
        "table": "tables",
        "quiz": "quiz.question",
        "interpret": "quiz.readings",
        "holds": "quiz.sentences",
    },
)
