"""Two-step chains of 256 x 256 tiles, by CARS: ``TILES FOLDER``; run by the peers' Python."""

import sys
import time
from pathlib import Path
from typing import Final

from cars.data_structures.cars_dataset import CarsDataset
from cars.orchestrator.orchestrator import Orchestrator, update_saving_infos

from benchmarks.orchestrator.grids import TILES_PER_ROW, fingerprint
from benchmarks.orchestrator.measure import tell
from benchmarks.orchestrator.tiles import TAG, noise, smooth

SIDE_PX: Final = 256


def with_cars(tiles: int, path: Path) -> None:
    """Have CARS' orchestrator do it, with its default configuration."""
    conf = {"mode": "multiprocessing", "nb_workers": 2}
    with Orchestrator(conf, out_dir=str(path.parent)) as orchestrator:
        dataset = CarsDataset("arrays", name=TAG)
        rows, cols = -(-tiles // TILES_PER_ROW), min(tiles, TILES_PER_ROW)
        dataset.create_grid(cols * SIDE_PX, rows * SIDE_PX, SIDE_PX, SIDE_PX, 0, 0)
        (info,) = orchestrator.get_saving_infos([dataset])
        orchestrator.add_to_save_lists(str(path), TAG, dataset)
        create_task = orchestrator.cluster.create_task
        for index in range(tiles):
            row, col = divmod(index, TILES_PER_ROW)
            attributes = {
                "window": dataset.get_window_as_dict(row, col),
                "saving_info": update_saving_infos(info, row=row, col=col),
            }
            dataset[row, col] = create_task(smooth)(create_task(noise)(index), attributes)


if __name__ == "__main__":
    count, folder = sys.argv[1:]
    begun = time.perf_counter()
    with_cars(int(count), Path(folder) / "height.tif")
    took_s = time.perf_counter() - begun
    tell(time_s=took_s, pixels=fingerprint(Path(folder) / "height.tif"))
