"""What lies in a model's directory: the names of its files, and where its weights are.

Weights are one file, or several with an index that says which tensor is in which. The index comes from outside and is
not trusted: it may name files of its own directory only.
"""

from __future__ import annotations

from pathlib import Path

from pellucid.errors import CorruptFileError, WeightsError
from pellucid.files import file_sha256
from pellucid.untrusted import read_object

CONFIG, WEIGHTS, INFO, GENERATION = "config.json", "model.safetensors", "pellucid.json", "generation_config.json"
SHARDS = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
TRAINING_TENSORS, TRAINING_STATE = "training/state.safetensors", "training/state.json"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pth", "consolidated.00.pth")


def is_checkpoint(directory: Path) -> bool:
    """Whether a directory looks like a model of the Hugging Face kind."""
    return (directory / CONFIG).is_file()


def weights_sha256(directory: Path) -> dict[str, str]:
    """File name -> SHA-256 of the weights in a checkpoint directory (one file, or several shards)."""
    return {path.name: file_sha256(path) for path in weight_files(directory)}


def weight_files(directory: Path) -> list[Path]:
    """The files that hold the weights.

    Raises WeightsError when there are none, only some, or only a pickle.
    """
    if (directory / WEIGHTS).is_file():
        return [directory / WEIGHTS]
    if (directory / SHARDS).is_file():
        return _shards(directory)
    pickles = [name for name in PICKLES if (directory / name).is_file()]
    if pickles:
        raise refused_pickle(pickles[0], str(directory))
    raise WeightsError(f"{WEIGHTS} is missing", found=describe(directory), where=str(directory))


def refused_pickle(name: str, where: str) -> WeightsError:
    """The error for a file of weights that is a Python pickle."""
    return WeightsError(
        "the weights are stored as a Python pickle, which is not opened: opening one can run any program",
        found=name,
        where=where,
        hint="save it again as safetensors, on a machine where you trust it: "
        "AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)",
    )


def _shards(directory: Path) -> list[Path]:
    index = read_object(directory / SHARDS).get("weight_map")
    names = sorted(set(map(str, index.values()))) if isinstance(index, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise CorruptFileError(f"{SHARDS} does not list the files beside it", where=str(directory))
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise WeightsError("parts of the weights are missing", found=", ".join(missing), where=str(directory))
    return [directory / name for name in names]


def describe(directory: Path) -> str:
    """A few words on what is there instead of what was expected."""
    if not directory.exists():
        return "nothing is there"
    if not directory.is_dir():
        return "a file"
    names = sorted(entry.name for entry in directory.iterdir())
    return ", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "an empty directory"
