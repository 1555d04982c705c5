"""Write raw arrays as WebDataset tars, and read training samples from them: run by `dataengine bench load --peers` in the `webdataset` environment."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from measure import answer, asked, measure
from PIL import Image

SHARDS = 16


def _jpeg(pixels: Any, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def write(raw: Path, out: Path, horizon: int, quality: int) -> int:
    """Write every step as one sample (both cameras as JPEG, state and action chunk as .npy), episodes in order over 16 tars; return the bytes."""
    spec = json.loads((raw / "raw.json").read_text())
    if not (out / "done").exists():
        out.mkdir(parents=True, exist_ok=True)
        shards = [wds.TarWriter(str(out / f"shard-{number:06d}.tar")) for number in range(SHARDS)]
        for episode in range(spec["episodes"]):
            folder = raw / f"episode_{episode:06d}"
            cameras = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in spec["cameras"]}
            state, action = np.load(folder / "state.npy"), np.load(folder / "action.npy")
            for step in range(spec["steps"]):
                chunk = action[np.minimum(np.arange(step, step + horizon), len(action) - 1)]
                sample = {"__key__": f"{episode:06d}_{step:06d}", "state.npy": state[step], "action.npy": chunk}
                sample |= {f"{name}.jpg": _jpeg(pixels[step], quality) for name, pixels in cameras.items()}
                shards[episode % SHARDS].write(sample)
        for shard in shards:
            shard.close()
        (out / "done").write_text("")
    return sum(path.stat().st_size for path in out.glob("*.tar"))


def _decode(sample: dict[str, Any]) -> dict[str, Any]:
    found = {name: np.load(io.BytesIO(sample[f"{name}.npy"])) for name in ("state", "action")}
    return found | {name: np.asarray(Image.open(io.BytesIO(sample[f"{name}.jpg"]))) for name in ("front", "wrist")}


def opener(spec: dict[str, Any]) -> Any:
    """Return a function that opens a loader with the library's shuffles of shards and samples; what waits in its buffer is still encoded."""

    def open_loader() -> Any:
        urls = [str(path) for path in sorted(Path(spec["out"]).glob("*.tar"))]
        dataset = wds.WebDataset(urls, shardshuffle=len(urls), seed=0, empty_check=False).shuffle(spec["buffer"]).map(_decode)
        workers = {"num_workers": spec["workers"], "persistent_workers": spec["workers"] > 0}
        return wds.WebLoader(dataset, batch_size=spec["batch"], **workers)

    return open_loader


def main() -> None:
    """Write with {"way": "write"}, otherwise print what `measure` returns."""
    spec = asked()
    torch.set_num_threads(1)
    if spec["way"] == "write":
        answer({"bytes": write(Path(spec["raw"]), Path(spec["out"]), spec["horizon"], spec["quality"])})
        return
    answer(measure(opener(spec), lambda batch: len(batch["state"]), spec["warmup"], spec["batches"], spec["seconds"], whole_epochs=True))


if __name__ == "__main__":
    main()
