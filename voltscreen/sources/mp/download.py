"""Documents of the Materials Project as files: electrodes to learn from, structures they need.

The layout is what `train.dataset` reads: `insertion_electrodes.jsonl`, one document a line as the
API gives it, and `structures.jsonl` with {material_id, structure}.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from voltscreen.errors import FileFormatError
from voltscreen.sources.mp.client import MPClient, known_electrodes
from voltscreen.sources.mp.documents import LabelledElectrode
from voltscreen.structures.mp_ids import plain_id

ELECTRODES_FILE = "insertion_electrodes.jsonl"
STRUCTURES_FILE = "structures.jsonl"
Progress = Callable[[int, int], None]


def download_electrodes(client: MPClient, home: Path, progress: Progress) -> Path:
    """The insertion electrodes of the release that is served now, with their charged structures.

    What is there is not fetched again; a stopped download goes on where it was.

    Args:
        home: folder of all releases. progress: called with structures that are there, and all.

    Returns:
        The folder of the release.

    Raises:
        MaterialsProjectError, SettingsError: as `MPClient`. FileFormatError: cannot write.
    """
    folder = home / client.release().replace("/", "_")
    electrodes = folder / ELECTRODES_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not electrodes.exists():
            partial = electrodes.with_name(electrodes.name + ".part")
            documents = sorted(client.electrodes(LabelledElectrode), key=_by_content)
            partial.write_text("".join(json.dumps(doc) + "\n" for doc in documents))
            partial.replace(electrodes)
        lines = (json.loads(line) for line in electrodes.read_text().splitlines())
        hosts = list(dict.fromkeys(each.id_charge for each in known_electrodes(lines)))
        download_structures(client, hosts, folder / STRUCTURES_FILE, progress)
    except OSError as error:
        raise FileFormatError(f"cannot write to {folder}: {error.strerror}") from None
    return folder


def download_structures(
    client: MPClient, ids: Sequence[str], file: Path, progress: Progress
) -> list[str]:
    """The structures of these materials, added to a file of {material_id, structure} lines.

    Returns:
        Ids that the Materials Project does not serve.
    """
    there = {plain_id(str(line["material_id"])) for line in _whole_lines(file)}
    wanted = [each for each in ids if each not in there]
    missing: list[str] = []
    done = len(ids) - len(wanted)
    progress(done, len(ids))
    with file.open("a", encoding="utf-8") as output:
        for chunk in client.materials(wanted):
            for document in chunk.documents:
                line = {name: document.get(name) for name in ("material_id", "structure")}
                output.write(json.dumps(line) + "\n")
            output.flush()
            missing += chunk.missing
            done += len(chunk.asked)
            progress(done, len(ids))
    return missing


def _whole_lines(file: Path) -> Iterable[dict[str, Any]]:
    """The lines of a file; one that was cut off when its writer died is taken away."""
    if not file.exists():
        return
    with file.open("rb+") as stream:
        end = 0
        for line in stream:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            yield json.loads(line)
        stream.truncate(end)


def _by_content(document: dict[str, Any]) -> str:
    """The same order whatever the order in which pages came."""
    names = ("material_ids", "working_ion", "id_charge")
    return json.dumps([document.get(name) for name in names])
