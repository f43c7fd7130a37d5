"""Training of the LowCLIP dual encoder: captions and images in, a checkpoint out.

Turning a checkpoint into a bundle is `lowclip_export`; opening a bundle is `lowclip_runtime`.
"""

import os

# MKL rounds by where an array begins in memory, unless told not to before its first product: on Intel processors one
# run in three was not the run that it resumed, to the bit
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
