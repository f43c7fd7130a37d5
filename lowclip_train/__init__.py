"""Training of the LowCLIP dual encoder: captions and images in, a checkpoint out.

Turning a checkpoint into a bundle is `lowclip_export`; opening a bundle is `lowclip_runtime`.
"""
