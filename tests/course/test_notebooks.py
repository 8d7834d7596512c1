"""Each notebook as it is stored: in step with its source, in order, clean, short, linked and described."""

import ast
import re
import statistics
import sys

import pytest
from reading import COURSE, FOLDER, NAMES, code_of, prose_of, source, stored, stubs

from prunekit.course import build
from prunekit.course.figures import start

GLOSSARY = FOLDER / "GLOSSARY.md"
LIBRARIES = {"prunekit", "torch", "numpy", "matplotlib", "transformers", "safetensors", "ipywidgets", "IPython"}
each = pytest.mark.parametrize("name", NAMES)


def test_the_whole_course_is_there():
    assert set(COURSE) <= set(NAMES)


@each
def test_both_sides_have_the_same_cells(name):
    assert build.in_step(FOLDER / f"{name}.py"), "run: make notebooks"


@each
def test_stored_outputs_are_clean_and_in_order(name):
    assert build.problems(stored(name)) == []
    assert (FOLDER / f"{name}.ipynb").stat().st_size < 1.5e6
    assert "widgets" not in stored(name).metadata


@each
def test_the_first_code_cell_is_the_set_up_cell(name):
    assert code_of(source(name))[0] == build.SETUP
    assert sum("setup" in cell.metadata.get("tags", []) for cell in source(name).cells) == 1


ASIDE = {"exercise", "hint", "solution", "quiz"}


def _tags(cell):
    return set(cell.metadata.get("tags", []))


@each
def test_cells_are_few_and_short(name):
    steps = [cell for cell in source(name).cells if not _tags(cell) & ASIDE]
    codes = [[line.strip() for line in code.splitlines()] for code in code_of(source(name))]
    lines = [sum(bool(line) and not line.startswith("#") for line in code) for code in codes]
    assert len(steps) <= 60
    assert sum(cell.cell_type == "code" for cell in steps) <= 32
    assert statistics.median(lines) <= 7
    assert max(lines) <= 25
    assert sum(lines) <= 230


def _runs(name):
    """Words of prose between one code cell and the next; folds, tables, code and what stands aside do not count."""
    runs = [0]
    for cell in source(name).cells:
        if cell.cell_type == "code":
            runs.append(0)
        elif not _tags(cell) & ASIDE:
            text = re.sub(r"<details.*?</details>|```.*?```", " ", cell.source, flags=re.DOTALL)
            runs[-1] += len(re.sub(r"^\|.*|\]\([^)\n]*\)", " ", text, flags=re.MULTILINE).split())
    return [words for words in runs if words]


@each
def test_a_learner_reads_little_before_the_next_step(name):
    assert statistics.median(_runs(name)) <= 70
    assert max(_runs(name)) <= 220


def test_long_runs_of_prose_are_rare():
    assert sum(words > 140 for name in NAMES for words in _runs(name)) <= 12


@each
def test_it_opens_and_closes_with_what_the_learner_will_be_able_to_do(name):
    prose = prose_of(source(name))
    opening, closing = prose[0], prose[-1]
    assert re.match(rf"# {name[:2]}\b", opening)
    assert "able to" in opening and _points(opening) >= 3
    assert re.search(r"\bminutes?\b", opening) and re.search(r"\b[GM]B\b", opening)
    assert _points(closing) >= 3
    assert re.search(r"\]\((\d\d_\w+\.ipynb|\w+\.md|https://)", closing), "say where to go next"


def _points(text):
    return len(re.findall(r"^\s*(?:[-*]|\d\.) ", text, re.MULTILINE))


@each
def test_predictions_are_made_before_and_compared_after(name):
    calls = [
        (node.func.attr, node.args[0].value)
        for code in code_of(source(name))
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("predict", "reveal")
        and getattr(node.func.value, "id", "") == "course"
    ]
    asked = [key for kind, key in calls if kind == "predict"]
    answered = [key for kind, key in calls if kind == "reveal"]
    assert len(asked) >= 2
    assert asked == answered
    assert all(calls.index(("predict", key)) < calls.index(("reveal", key)) for key in asked)


@each
def test_exercises_are_complete(name):
    found = stubs(name)
    assert len(found) >= 3
    for stub in found:
        assert f"Exercise {stub.identifier}" in stub.heading
        assert re.search(r"\((easy|medium|hard), (about )?\d+ minutes\)$", stub.heading), stub.heading
        assert stub.identifier.startswith(f"{int(name[:2])}.")
        tree = ast.parse(stub.code)
        function = next(node for node in tree.body if getattr(node, "name", None) == stub.function)
        assert function.returns is not None and all(arg.annotation is not None for arg in function.args.args)
        assert ast.get_docstring(function)
        assert f"def {stub.function}(" in stub.solution
        folded = next(c.source for c in source(name).cells[stub.index :] if "solution" in c.metadata.get("tags", []))
        assert "<details>" in folded and "</details>" in folded


@each
def test_exercises_that_ask_what_a_figure_says_are_complete(name):
    cells = source(name).cells
    asking = [index for index, cell in enumerate(cells) if "course.interpret(" in cell.source]
    for index in asking:
        identifier = re.search(r'course\.interpret\("([\d.]+)"', cells[index].source)[1]
        before = "\n".join(cell.source for cell in cells[:index] if cell.cell_type == "markdown")
        assert re.search(rf"^### Exercise {identifier}: .*\(interpret, \d+ minutes\)$", before, re.MULTILINE)
        assert "exercise" in _tags(cells[index])
        after = next(cell for cell in cells[index + 1 :] if "solution" in _tags(cell))
        assert "<details>" in after.source and "</details>" in after.source
    texts = [
        output.get("text", "")
        for cell in stored(name).cells
        if "course.interpret(" in cell.source
        for output in cell.outputs
    ]
    assert len(texts) == len(asking) and all("not attempted yet" in text for text in texts)


@each
def test_two_folded_hints_stand_before_each_solution(name):
    kinds = [kind for cell in source(name).cells for kind in ("exercise", "hint", "solution") if kind in _tags(cell)]
    if "hint" in kinds:
        assert kinds == ["exercise", "hint", "hint", "solution"] * kinds.count("exercise")
    for cell in source(name).cells:
        if "hint" in _tags(cell):
            assert re.fullmatch(r"<details><summary>Hint [12]</summary>.*</details>", cell.source.strip(), re.DOTALL)


@each
def test_an_exercise_that_nobody_attempted_says_so(name):
    checks = [cell for cell in stored(name).cells if "course.check(" in cell.source]
    texts = [output.get("text", "") for cell in checks for output in cell.outputs]
    assert len(texts) == len(stubs(name))
    assert all("not attempted yet" in text for text in texts)


@each
def test_links_lead_somewhere(name):
    for target, anchor in re.findall(
        r"\]\(([\w./-]+\.(?:md|ipynb|py))?(?:#([\w-]+))?\)", "\n".join(prose_of(source(name)))
    ):
        assert not target or (FOLDER / target).exists(), target
        if anchor:
            assert target, f"#{anchor}: links within a notebook differ between places"
            assert anchor in _anchors(target), f"{target}#{anchor}"


def _anchors(name):
    """Anchors of headings, as code hosts and JupyterLab make them out of lower-case headings."""
    text = (FOLDER / name).read_text("utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings} | set(
        re.findall(r'id="([\w-]+)"', text)
    )


@each
def test_terms_and_claims_are_linked(name):
    prose = "\n".join(prose_of(source(name)))
    assert "GLOSSARY.md#" in prose and "BIBLIOGRAPHY.md#" in prose


@each
def test_every_picture_has_alternative_text(name):
    pictures = 0
    for cell in stored(name).cells:
        if cell.cell_type == "markdown":
            assert all(len(alt) > 10 for alt in re.findall(r"!\[(.*?)\]\(", cell.source))
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for tag in re.findall(r"<img[^>]*>", data.get("text/html", "")):
                assert len(re.search(r'alt="([^"]*)"', tag)[1].split()) >= 3
            if any(kind.startswith("image/") for kind in data):
                assert "<img" in data["text/html"]
                assert len(output.metadata["image/png"]["alt"].split()) >= 3
                pictures += 1
    assert pictures >= 1


@each
def test_only_public_names_are_used(name):
    for code in code_of(source(name)):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                modules = [item.name for item in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not any(item.name.startswith("_") for item in node.names)
                modules = [node.module]
            else:
                modules = []
            for module in modules:
                assert module.split(".")[0] in LIBRARIES | set(sys.stdlib_module_names), module
                assert not any(part.startswith("_") for part in module.split("."))
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_") or node.attr.endswith("__"), node.attr


@each
def test_cells_that_depend_on_the_run_are_not_compared(name):
    for cell in source(name).cells:
        code = cell.source
        if cell.cell_type == "code" and re.search(r"course\.(predict|widgets\.\w+|show)\(|LiveFigure\(", code):
            assert {"nbval-ignore-output", "nbval-skip"} & set(cell.metadata.get("tags", [])), code


def test_every_entry_of_the_glossary_is_linked():
    pages = [FOLDER.parent / "README.md", *FOLDER.glob("[A-FH-Z]*.md"), *FOLDER.glob("[0-9]*.py")]
    linked = set(re.findall(r"GLOSSARY\.md#([\w-]+)", "\n".join(page.read_text("utf-8") for page in pages)))
    entries = re.findall(r"^## (.+)$", GLOSSARY.read_text("utf-8"), re.MULTILINE)
    assert {re.sub(r"[^\w -]", "", entry).replace(" ", "-") for entry in entries} - linked == set(), (
        "link these where the word is first used"
    )


def test_minutes_are_the_same_on_the_map_and_for_lecturers():
    headings = re.findall(
        r"^### (\d\d) .*\((\d+) minutes\)$", (FOLDER / "TEACHING.md").read_text("utf-8"), re.MULTILINE
    )
    assert headings == [(name[:2], str(minutes)) for name, _, minutes in start.NOTEBOOKS]
