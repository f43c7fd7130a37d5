"""A larger dual encoder to learn from, as the config says it; `dual_teacher.py` opens it."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DualTeacherConfig:
    """The student learns to match the photos and captions of a batch as this teacher does (see `affinity.py`).

    Attributes:
        teacher: a checkpoint's folder, or the hub name or local folder of a CLIP or SigLIP model of transformers.
        teacher_lang: the one language that the teacher reads, such as `en`: the caption with the same caption_id, or
            else the photo's first, stands for the one that the student reads, and photos without any take no part
            (empty: it reads what the student does).
        weight: of this loss beside the contrastive one.
    """

    teacher: str
    teacher_lang: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        problems = []
        if not self.teacher.strip():
            problems.append("teacher must be a checkpoint, a hub name or a folder, not empty")
        if self.teacher_lang != self.teacher_lang.strip():
            problems.append(f"teacher_lang must be a caption's lang such as 'en', not {self.teacher_lang!r}")
        if not (self.weight > 0 and math.isfinite(self.weight)):
            problems.append(f"weight must be a number above 0, not {self.weight}")
        if problems:
            raise ValueError("; ".join(problems))
