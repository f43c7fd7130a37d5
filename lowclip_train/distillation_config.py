"""What a config says of the text teacher, see `teacher.py`."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A text teacher: the student's pooled vector is drawn to the teacher's mean of the same or the parallel text.

    Attributes:
        teacher: hub name or local folder of the text encoder to follow; its width must be the student's.
        teacher_prefix: put before each text for the teacher.
        parallel: pairs files without images (`image` column is a key): rows of one key (of one key and
            `caption_id`, where it has several `en` rows) say the same in several languages, and the `en` row is what
            the teacher reads.
        parallel_batch_size: texts of `parallel` added to each step.
        weight: of this loss beside the contrastive one.
    """

    teacher: str
    teacher_prefix: str = ""
    parallel: tuple[str, ...] = ()
    parallel_batch_size: int = 64
    weight: float = 1.0

    def __post_init__(self) -> None:
        problems = []
        if not self.teacher.strip():
            problems.append("teacher must be a hub name or a folder, not empty")
        if self.parallel_batch_size < 1:
            problems.append(f"parallel_batch_size must be 1 or more, not {self.parallel_batch_size}")
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            problems.append(f"weight must be a number of 0 or more, not {self.weight}")
        if problems:
            raise ValueError("; ".join(problems))
