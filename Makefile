# `make demo` and `make test` do their own set-up: they need Python 3.11 (or newer), git and make, nothing else.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
TEST_OPTIONS ?= -n 2
MUTANTS_OPTIONS ?= --max-children 2
MINUTES ?= 30
CORE := turbo/attention.py,turbo/drops.py,turbo/flops.py,turbo/fusion/*,turbo/hashing.py,turbo/information.py,$\
	turbo/levels.py,turbo/matching.py,turbo/merging.py,turbo/partition.py,turbo/plan.py,turbo/ratios.py,$\
	turbo/registry.py,turbo/schedule.py
CORE_TESTS := $(patsubst %,tests/test_%.py,attention drops flops fusion hashing information matching merging partition $\
	ratios registry schedule speedup)

ZOO := blip-scenes blip-vqa-scenes clip-scenes
SD_PARTS := --parts self_attention self_attention,cross_attention,feed_forward $(if $(TOMESD),--tomesd $(TOMESD))

.PHONY: help install demo test check docs package support bench bench-generation bench-zoo mutants coverage nightly clean
help:  ## Show the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[all,dev,docs]"
	@touch $@

install: $(READY)  ## Create .venv with everything

demo: $(READY)  ## Accelerate a digit reader and a full-size CLIP, with tables and a picture
	$(BIN)/turbo demo

test: $(READY)  ## Run all tests (docstrings and documentation included)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q $(TEST_OPTIONS)

check: $(READY)  ## Lint, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell turbo docs docs_hooks docs_theme tests site_tests property_tests examples README.md CHANGELOG.md CONTRIBUTING.md

docs: $(READY)  ## Build the site into site/ and test it, in a browser too
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q site_tests

package: $(READY)  ## Build the wheel into dist/ and use it in an environment of its own, which it downloads torch for
	.ci/package $(BIN)/python

support: $(READY)  ## Run the conformance kit on every family (ten minutes); fills the support matrix
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/support_matrix.py
	$(BIN)/python benchmarks/fill_pages.py

bench: $(READY)  ## Time full-size models, interleaved (over an hour); TOME=FOLDER times a checkout of ToMe beside them; fills the pages
	$(BIN)/python benchmarks/speed.py $(if $(TOME),--tome $(TOME))
	$(BIN)/python benchmarks/merging_share.py
	$(BIN)/python benchmarks/attention_cpu.py
	$(BIN)/python benchmarks/fill_pages.py
	$(BIN)/python benchmarks/speed_pictures.py

bench-generation: $(READY)  ## Quality and speed of Stable Diffusion's UNets (two hours, 20 GB); TOMESD=FOLDER times a checkout of tomesd beside it
	$(BIN)/python benchmarks/generation_choices.py --images 32
	$(BIN)/python benchmarks/generation_quality.py
	$(BIN)/python benchmarks/sd_unet.py --config sd15-unet --latents 64 --rounds 5 $(SD_PARTS) \
		--out benchmarks/results/sd15-unet-64-cpu.json
	$(BIN)/python benchmarks/sd_unet.py --config sd15-unet --latents 128 --no-guidance --rounds 3 $(SD_PARTS) \
		--out benchmarks/results/sd15-unet-128-cpu.json
	$(BIN)/python benchmarks/sd_unet.py --config sdxl-unet --latents 128 --no-guidance --rounds 3 --max-downsample 2 \
		$(SD_PARTS) --out benchmarks/results/sdxl-unet-128-cpu.json

bench-zoo: $(READY)  ## Quality of the zoo's models: what decides the defaults, the paper's tables (six hours); fills the pages
	$(BIN)/python benchmarks/defaults.py --split validation
	$(BIN)/python benchmarks/defaults.py --split test
	$(BIN)/python benchmarks/pool_tower.py
	$(BIN)/python benchmarks/semantic_sources.py
	$(BIN)/python benchmarks/attention_sinks.py
	$(BIN)/python benchmarks/cross_modal.py
	for table in table1 table2; do \
		$(BIN)/turbo reproduce $$table --seeds 0,1,2 --limit 100 --out out/reproduce && \
		cp out/reproduce/$$table.json benchmarks/results/ || exit 1; done
	for model in $(ZOO); do \
		$(BIN)/turbo eval --model zoo:$$model --data scenes --strategies ward,s1,tome --seeds 0,1,2 --limit 300 --rounds 15 \
			--out out/default-$$model && \
		cp out/default-$$model/results.json benchmarks/results/default-$$model.json || exit 1; done
	$(BIN)/turbo eval --model zoo:blip-scenes --data scenes --strategies "ward,s1(alpha=0.1),tome,attention" \
		--speedup 1.3,1.6,2,2.5 --limit 300 --rounds 15 --out out/eval-captions
	cp out/eval-captions/results.json benchmarks/results/eval-captions.json
	cp out/eval-captions/plot.png docs/images/eval-captions.png
	$(BIN)/turbo reproduce figure1 --out out/reproduce && cp out/reproduce/figure1.png docs/images/text-to-image.png
	$(BIN)/turbo reproduce figure2 --out out/reproduce && cp out/reproduce/figure2.png docs/images/image-to-image.png
	$(BIN)/turbo reproduce figure3 --out out/reproduce && cp out/reproduce/figure3.png docs/images/merging-process.png
	$(BIN)/python benchmarks/fill_pages.py
	$(BIN)/python benchmarks/choices_picture.py

mutants: $(READY)  ## Break the core in a thousand ways, one at a time: the tests must notice each (half an hour)
	rm -rf mutants
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=mutants $(BIN)/mutmut run $(MUTANTS_OPTIONS)
	$(BIN)/python benchmarks/mutants.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutants_by_test.py

coverage: $(READY)  ## Branch coverage of the pure core by the tests that build no model: it must be complete
	OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=dev $(BIN)/coverage run -m pytest -q $(CORE_TESTS) property_tests
	$(BIN)/coverage report --include="$(CORE)" --fail-under=100

nightly: $(READY)  ## Search the properties with random examples for MINUTES, 30 by default, in whole rounds of 2000 each
	end=$$(( $$(date +%s) + 60 * $(MINUTES) )); while \
		OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -q $(TEST_OPTIONS) property_tests; \
	do [ $$(date +%s) -lt $$end ] || exit 0; done; exit 1

clean:  ## Remove what the other commands made, .venv included
	rm -rf .venv site dist out mutants .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
