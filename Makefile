# Commands of the workspace. `make` alone lists them.
# A machine with Python 3.11, git and make is enough: everything else is installed into $(VENV).

# One environment serves one clone: the package is installed there in editable form, from this folder.
VENV ?= .venv
# Options of `pip install`; for the small CPU build of torch:
#   make repro PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# Members that `make repro` and `make grid` run at the same time, each on the threads that its profile names.
JOBS ?= 2
# Options of pytest, such as PYTEST_ARGS="-k qsd".
PYTEST_ARGS ?=
# Options of JupyterLab, such as LAB_ARGS=--no-browser on a server.
LAB_ARGS ?=
# The interpreter that makes $(VENV); requirements.lock is made for 3.11.
PYTHON ?= $(firstword $(foreach p,python3.11 python3,$(shell \
	$(p) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $(p))))

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.gkd-installed
NOTEBOOKS := notebooks/*.ipynb

# Stages call papermill by name, and papermill its `python3` kernel: both must be those of $(VENV).
export PATH := $(abspath $(BIN)):$(PATH)
export JUPYTER_PREFER_ENV_PATH := 1
unexport JUPYTER_PATH
export PYTHONHASHSEED := 0

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help repro test lab data grid camvid lint clean workspace

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

repro: workspace $(INSTALLED) data ## install, make the data and run the pipeline: result tables and figures
	$(BIN)/gkd plan
	$(BIN)/gkd repro --jobs $(JOBS)

test: workspace $(INSTALLED) ## run the tests, an end-to-end run among them
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

lab: workspace $(INSTALLED) data ## open JupyterLab in notebooks/
	$(BIN)/jupyter-lab notebooks $(LAB_ARGS)

# An existing data/ is never overwritten; written aside first, so that a stopped run leaves no half of it.
data: workspace $(INSTALLED) ## make the embedded suite in data/ where data/ is missing, and compare it with data.dvc
	test -d data || { rm -rf .scratch/data && $(BIN)/python -m gkd.mini --out .scratch/data && mv .scratch/data data; }
	$(BIN)/dvc commit --quiet --force data.dvc
	@git diff --quiet data.dvc && echo "data/ is the suite that data.dvc names" || \
		echo "data/ differs from the committed suite: see git diff data.dvc"

grid: workspace $(INSTALLED) data ## F2L and F2F, three seeds, every method, longer training; tables to docs/results/mini
	$(call with_profile,grid,$(BIN)/gkd repro --jobs $(JOBS) && $(call publish,grid,mini))

camvid: workspace $(INSTALLED) data ## the pipeline on real photos (GKD_CAMVID_ROOT); tables to docs/results/camvid
	$(call with_profile,camvid,$(BIN)/dvc repro && $(call publish,camvid,camvid))

lint: $(INSTALLED) ## check style, and that the notebooks are stored without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --extra-keys "metadata.language_info" $(NOTEBOOKS)

clean: ## remove results, resume checkpoints and tool caches; files in git, data, weights and DVC's cache stay
	git clean -fdxq results .scratch
	git clean -fdXq .hypothesis .pytest_cache .ruff_cache gkd notebooks perf tests

# $(call with_profile,NAME,COMMAND): the command under another profile, then the default plan and its dvc.lock again,
# also after a failure or Ctrl-C. What the other profile made stays in results/ and in DVC's cache.
with_profile = trap : INT TERM; mkdir -p .scratch && cp dvc.lock .scratch/default.lock && \
	$(BIN)/gkd plan --profile $(1) && $(2); status=$$?; \
	$(BIN)/gkd plan --profile mini && cp .scratch/default.lock dvc.lock && exit $$status

# $(call publish,PROFILE,NAME): copy a profile's tables, numbers only, to where git keeps them.
publish = mkdir -p docs/results/$(2) && cp results/report/$(1)/tables/* docs/results/$(2)/

workspace:
	@command -v git >/dev/null || { echo "git is not on PATH; DVC needs it: install git." >&2; exit 1; }
	@test -e .git && test -f .dvc/config || { echo "$(CURDIR) has no .git or no .dvc/config:" \
		"work in a git clone of the repository, not in an unpacked archive." >&2; exit 1; }

$(INSTALLED): requirements.lock pyproject.toml
	@test -x $(BIN)/pip || test -n "$(PYTHON)" || { echo "No Python 3.11 on PATH: install it," \
		"or name one, as in make PYTHON=/path/to/python3.11." >&2; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_ARGS) -r requirements.lock
	$(BIN)/python -m pip install --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q gkd
	@touch $@
