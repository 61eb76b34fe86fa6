# Everything runs in .venv, which is made when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install screen test train lint bench chaos fuzz lock clean

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "voltscreen needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	# torch first and pinned: other packages ask for it without saying which build.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

screen: install
	$(BIN)/voltscreen screen --replace workflows/known-hosts.yaml

test: install
	$(BIN)/python -m pytest -n auto --dist worksteal

# Rebuild the shipped models from the labelled electrodes and the stored insertion labels. A stopped
# run goes on where it was.
# Without DATA the electrodes come from the Materials Project (MP_API_KEY), and the pre-trained trunks
# are those of the repository.
DATA ?= ../shared/data
MP_DATA ?= mp-data/electrodes.parquet
PRETRAINED := training/pretrained.safetensors
TRAIN_ON = $(if $(wildcard $(DATA)),--data $(DATA) --save-pretrained $(PRETRAINED),--data $(MP_DATA) --pretrained $(PRETRAINED))
train: install
	test -e $(DATA) || $(BIN)/voltscreen model dataset --from-mp --output $(MP_DATA)
	$(BIN)/voltscreen model train --name default $(TRAIN_ON) --labels training --workers 2 \
		--output voltscreen/model/shipped/default.safetensors \
		--single voltscreen/model/shipped/single.safetensors

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/parity.py
	$(BIN)/python benchmarks/stages.py --count 600 --csv stages.csv
	$(BIN)/python benchmarks/ten_million.py

# A campaign with every fault at every fail point; prints which ends are those of an undisturbed run.
chaos: install
	$(BIN)/python -m tests.chaos

# Every reader of foreign files, SECONDS each; findings and corpus in runs/fuzz.
SECONDS ?= 60
fuzz: install
	$(BIN)/python benchmarks/fuzz/run.py --seconds $(SECONDS)

# Resolve the dependencies anew, in an environment of their own, and pin what came out.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet "$$(grep '^torch==' requirements.lock)"
	.venv-lock/bin/python -m pip install --quiet --editable '.[embedded,web,potential,dev]'
	.venv-lock/bin/python -m pip freeze --exclude-editable --all \
		| grep -v -E '^(pip|setuptools)==' | sed 's/+cpu//' > requirements.lock.new
	mv requirements.lock.new requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf $(VENV) .venv-lock .pytest_cache .mypy_cache .ruff_cache
