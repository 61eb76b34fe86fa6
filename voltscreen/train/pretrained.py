"""Pre-trained networks as a file, so that fine-tuning needs neither the pool nor hours."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from voltscreen.errors import FileFormatError

FORMAT = "voltscreen-pretrained-1"


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Networks that fine-tuning can start from.

    states: of each, by the number of its pre-training. description: what they learned, a sentence.
    sha256: of the file.
    """

    states: Sequence[Mapping[str, Tensor]]
    description: str
    sha256: str


def save_pretrained(states: Sequence[Mapping[str, Tensor]], description: str, path: Path) -> None:
    """Write networks to a file."""
    tensors = {
        f"{number}/{name}": tensor.contiguous()
        for number, state in enumerate(states)
        for name, tensor in state.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(save(tensors, {"format": FORMAT, "description": description}))
    unfinished.replace(path)


def load_pretrained(path: Path) -> Pretrained:
    """The inverse of `save_pretrained`.

    Raises:
        FileFormatError: no such file, or another content.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise FileFormatError(
                    f"{path} holds no pre-trained networks of this version of voltscreen "
                    f"(format {header.get('format')!r}, expected {FORMAT!r})"
                )
            states: dict[int, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118  # no mapping
                number, _, name = key.partition("/")
                states.setdefault(int(number), {})[name] = file.get_tensor(key)
    except (OSError, SafetensorError) as error:
        raise FileFormatError(f"cannot read the pre-trained networks of {path}: {error}") from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Pretrained([states[k] for k in sorted(states)], header["description"], digest)
