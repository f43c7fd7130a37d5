"""Export: from a checkpoint to an ONNX bundle, quantized and with its parity report.

Training the checkpoint is `lowclip_train`; opening the bundle is `lowclip_runtime`.
"""
