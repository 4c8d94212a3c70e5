from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from painted import dataset_spec, stamps, step

from robolearn.datasets.histograms import histograms
from robolearn.datasets.stats import QUANTILES, summarize
from robolearn.datasets.store import EpisodeMeta, ImageCodec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.types import EpisodeOutcome


def test_summary_is_that_of_numpy_over_valid_steps(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec(ImageCodec("jpegxl")))
    rng = np.random.default_rng(0)
    kept: dict[str, list[np.ndarray]] = {"proprio": [], "image_front": []}
    with store.writer() as writer:
        for _ in range(3):
            writer.begin(EpisodeMeta())
            for number in range(20):
                image = rng.integers(0, 256, (16, 16, 3), np.uint8)
                values = {**step(number), "proprio": 1e4 + rng.normal(size=4).astype(np.float32), "image_front": image}
                valid = number % 5 != 0
                writer.append(values, stamps(number), valid={"proprio": valid, "image_front": valid})  # type: ignore[arg-type]
                if valid:
                    kept["proprio"].append(values["proprio"].astype(np.float32))  # type: ignore[attr-defined]
                    kept["image_front"].append(image)
            writer.commit(EpisodeOutcome(True, True, False))
    summary = summarize(store, ["proprio", "image_front"])
    for name, rows in kept.items():
        values = np.stack(rows).astype(np.float64).reshape(-1, 3 if "image" in name else 4)
        np.testing.assert_allclose(summary[name].mean, values.mean(0), rtol=1e-12)
        np.testing.assert_allclose(summary[name].std, values.std(0), rtol=1e-6)
        assert summary[name].low == tuple(values.min(0))
        assert summary[name].high == tuple(values.max(0))
        quantiles = np.quantile(values, QUANTILES, axis=0)
        np.testing.assert_allclose(summary[name].quantiles, quantiles, atol=1.0 if "image" in name else 1e-6)
    assert summary["proprio"].count == 48
    assert set(summarize(store)) == {*store.spec.fields} - {"held"}


def test_nothing_to_summarize(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec())
    with pytest.raises(DatasetError, match="proprio has no valid step"):
        summarize(store, ["proprio"])
    with pytest.raises(DatasetError, match="image_front has no valid step"):
        summarize(store, ["image_front"])
    counted = histograms(store)
    assert (len(counted["action"]), sum(counted["action"][0]["counts"]), counted["position_coverage"]) == (2, 0, 0.0)
    with pytest.raises(UnknownNameError, match="proprio"):
        summarize(store, ["propiro"])
