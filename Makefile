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

# Stages call `python`: it must be that of $(VENV).
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help repro test test-pipeline lab data grid grid_long develop controls curves camvid weights lint clean workspace withheld-teacher

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

repro: workspace $(INSTALLED) data ## install, make the data and run the pipeline: result tables and figures
	$(BIN)/python -m gkd repro --jobs $(JOBS)

test: workspace $(INSTALLED) ## run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not pipeline" $(PYTEST_ARGS)

test-pipeline: workspace $(INSTALLED) ## run what docs say of DVC in copies of the repository, on the profile tiny
	$(BIN)/python -m pytest -m pipeline $(PYTEST_ARGS)

lab: workspace $(INSTALLED) data ## open JupyterLab
	$(BIN)/jupyter-lab --ServerApp.log_level=WARNING $(LAB_ARGS)

# An existing data/ is never overwritten; written aside first, so that a stopped run leaves no half of it.
data: workspace $(INSTALLED) ## make the embedded suite in data/ where data/ is missing, and compare it with data.dvc
	test -d data || { rm -rf .scratch/data && $(BIN)/python -m gkd.mini --out .scratch/data && mv .scratch/data data; }
	$(BIN)/dvc commit --quiet --force data.dvc
	@git diff --quiet data.dvc && echo "data/ is the suite that data.dvc names" || \
		echo "data/ differs from the committed suite: see git diff data.dvc"

# A profile in the place of params.yaml; its scores, tables and lock go to a folder.
profile = $(BIN)/python -m gkd profile --jobs $(JOBS)

grid: workspace $(INSTALLED) data ## F2L and F2F, several seeds, every method; scores, locks, tables to docs/results/grid*
	$(profile) profiles/grid_f2l.yaml docs/results/grid
	$(profile) profiles/grid_f2f.yaml docs/results/grid
	$(profile) profiles/grid_f2f_proxy.yaml docs/results/grid_proxy

grid_long: workspace $(INSTALLED) data ## F2L of `make grid` and two rows more, none and kd trained much longer; in its place there
	$(profile) profiles/grid_long.yaml docs/results/grid

develop: workspace $(INSTALLED) data ## the default on the development domains; tables to docs/results/develop
	$(profile) profiles/develop.yaml docs/results/develop

controls: control-default $(patsubst profiles/controls/%.yaml,control-%,$(wildcard profiles/controls/*.yaml)) ## what else could explain the default's results, a profile each; to docs/results/controls

control-default: workspace $(INSTALLED) data
	$(profile) params.yaml docs/results/controls/default --beside

control-withheld: withheld-teacher

withheld-teacher: workspace $(INSTALLED)
	$(BIN)/dvc repro weights/mini/dvc.yaml:pretrain@withheld

control-%: workspace $(INSTALLED) data
	$(profile) profiles/controls/$*.yaml docs/results/controls/$* --beside

# Points of `make curves`: thousands of samples of the proxy set, of which a step sees 32. Where seeds are compared: three.
CURVE := 016 032 064 128 256 512
CURVE_SEEDS = 0
curve-064 curve-128: CURVE_SEEDS = 0, 1, 2

curves: $(CURVE:%=curve-%) ## unseen mIoU against samples of the proxy set, on development domains; to docs/results/curves

curve-%: workspace $(INSTALLED) data
	@mkdir -p .scratch
	printf 'over: ../profiles/curves.yaml\nseeds: [$(CURVE_SEEDS)]\ntask_agnostic:\n  steps: %s\n' \
		$$(expr $* \* 1000 / 32) > .scratch/curves.yaml
	$(profile) .scratch/curves.yaml docs/results/curves/$*k --beside

camvid: workspace $(INSTALLED) data ## real photos (GKD_CAMVID_ROOT, GKD_PROXY_ROOT), all labels and an eighth; docs/results/camvid*
	$(profile) profiles/camvid.yaml docs/results/camvid
	$(profile) profiles/camvid_eighth.yaml docs/results/camvid_eighth

MINIATURES := teacher student_broad student_narrow

weights: workspace $(INSTALLED) ## train the miniature models anew and put them into weights/mini (most of a day on two cores)
	$(BIN)/dvc repro $(MINIATURES:%=weights/mini/dvc.yaml:pretrain@%)
	cp $(foreach m,$(MINIATURES),results/pretrain/$m/$m.safetensors) weights/mini/

lint: $(INSTALLED) ## check style, and that the notebooks are stored without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --extra-keys "metadata.language_info" $(NOTEBOOKS)

clean: ## remove results, resume checkpoints and tool caches; files in git, data, weights and DVC's cache stay
	@# .scratch/before*: params.yaml, where a run of another profile was killed
	git clean -fdxq -e 'before*' results .scratch
	git clean -fdXq .hypothesis .pytest_cache .ruff_cache gkd notebooks perf tests

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
