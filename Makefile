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
# Points of `make curves`: thousands of samples of the proxy set, of which a step sees 32. Where seeds are compared: three.
CURVE := 016 032 064 128 256 512
CURVE_SEEDS = 0
curve-064 curve-128: CURVE_SEEDS = 0, 1, 2

.PHONY: help repro test test-pipeline lab data grid develop controls curves camvid weights lint clean workspace

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

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

grid: workspace $(INSTALLED) data ## F2L and F2F, several seeds, every method; scores, locks and tables to docs/results/grid*
	$(call with_profile,grid_f2l,grid)
	$(call with_profile,grid_f2f,grid)
	$(call with_profile,grid_f2f_proxy,grid_proxy)

develop: workspace $(INSTALLED) data ## the default on the development domains; tables to docs/results/develop
	$(call with_profile,develop,develop)

controls: repro $(patsubst profiles/controls/%.yaml,control-%,$(wildcard profiles/controls/*.yaml)) ## what else could explain the default's results, a profile each; to docs/results/controls
	$(call publish,mini,controls/default,*-gtav-0 *-potsdam_rgb-0)

control-%: workspace $(INSTALLED) data
	$(call with_profile,controls/$*,controls/$*)

curves: $(CURVE:%=curve-%) ## unseen mIoU against samples of the proxy set, on development domains; to docs/results/curves

curve-%: workspace $(INSTALLED) data
	@mkdir -p .scratch
	sed -e '/^task_agnostic:/,/steps:/s/steps: .*/steps: '$$(expr $* \* 1000 / 32)/ -e 's/^seeds: .*/seeds: [$(CURVE_SEEDS)]/' \
		profiles/curves.yaml > .scratch/curves.yaml
	$(call with_profile,../.scratch/curves,curves/$*k)

camvid: workspace $(INSTALLED) data ## the pipeline on real photos (GKD_CAMVID_ROOT); tables to docs/results/camvid
	$(call with_profile,camvid,camvid)

weights: workspace $(INSTALLED) ## train the miniature models anew and put them into weights/mini (most of a day on two cores)
	$(BIN)/dvc repro weights/mini/dvc.yaml
	cp results/pretrain/*/*.safetensors weights/mini/

lint: $(INSTALLED) ## check style, and that the notebooks are stored without outputs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --verify --extra-keys "metadata.language_info" $(NOTEBOOKS)

clean: ## remove results, resume checkpoints and tool caches; files in git, data, weights and DVC's cache stay
	git clean -fdxq results .scratch
	git clean -fdXq .hypothesis .pytest_cache .ruff_cache gkd notebooks perf tests

# $(call with_profile,NAME,FOLDER): run profiles/NAME.yaml, publish it in docs/results/FOLDER, and put params.yaml and
# dvc.lock back as they were, also after a failure or Ctrl-C; after a kill the next call does. Its results stay in DVC's
# cache, which brings back the evaluations that the profile still has.
before = .scratch/before
with_profile = trap : INT TERM; { test ! -d $(before) || cp $(before)/* .; } && \
	mkdir -p $(before) && cp params.yaml dvc.lock $(before)/ && cp profiles/$(1).yaml params.yaml && \
	rm -rf results/evaluate/$(notdir $(1)) && \
	$(BIN)/python -m gkd repro --jobs $(JOBS) && $(call publish,$(notdir $(1)),$(2)) && \
	cp dvc.lock docs/results/$(2)/$(notdir $(1)).lock; status=$$?; \
	cp $(before)/* . && rm -r $(before) && exit $$status

# $(call publish,PROFILE,FOLDER,MEMBERS): the scores of a profile to docs/results/FOLDER, and the tables there, or in A where
# it is A/B. MEMBERS: patterns; all by default.
publish = (set -e; for m in $(or $(3:%=results/evaluate/$(1)/%),results/evaluate/$(1)/*); do \
	to=docs/results/$(2)/scores/$$(basename $$m); mkdir -p $$to; cp $$m/scores.csv $$m/images.npz $$to/; done) && \
	$(BIN)/python -m gkd tables docs/results/$(firstword $(subst /, ,$(2)))

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
