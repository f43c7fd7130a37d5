"""Reading parquet takes the memory of a few rows and of the row group they are in, however large the file is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_images import png

# prints by how much the most memory that the process ever had grew, in bytes; pyarrow's own count leaves out what it
# reads ahead
MEASURE = """
import sys
from pathlib import Path
import pyarrow.parquet
from lowclip_train.hf_parquet import extract_parquet

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))

before = peak()
assert len(extract_parquet(sys.argv[1], Path(sys.argv[2]), "en", "train")) == 384
print(peak() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="the system does not tell a process's peak"
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Left to itself pyarrow reads row groups whole, and the next ones ahead."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"image": png(0) + os.urandom(1 << 18), "caption": f"{n}"} for n in range(384)]
    file = tmp_path / "p.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), file, row_group_size=32, compression="none")
    command = [sys.executable, "-c", MEASURE, str(file), str(tmp_path / "images")]
    taken = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0 < taken < file.stat().st_size
