"""What a config says of the text teacher, see `teacher.py`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """A text teacher: the mean-pooled student is drawn to the teacher's vector of the same or the parallel text.

    Attributes:
        teacher: hub name or local folder of the text encoder to follow; its width must be the student's.
        teacher_prefix: put before each text for the teacher.
        parallel: pairs files without images (`image` column is a key): rows of one key say the same in several
            languages, and the `en` row is what the teacher reads.
        parallel_batch_size: texts of `parallel` added to each step.
        weight: of this loss beside the contrastive one.
    """

    teacher: str
    teacher_prefix: str = ""
    parallel: tuple[str, ...] = ()
    parallel_batch_size: int = 64
    weight: float = 1.0
