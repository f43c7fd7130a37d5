"""Export: from a checkpoint to an ONNX bundle, quantized and with its parity report.

Training the checkpoint is `lowclip_train`; opening the bundle is `lowclip_runtime`.
"""

import lowclip_runtime  # noqa: F401  before onnxruntime, whose telemetry it switches off
