"""Swin with its tokens kept in the order of the windows: one row permutation between blocks and no other move.

timm cuts windows by reshaping and transposing feature maps, and shifts them by slicing and joining, twice in
every block (Swin Transformer, Liu et al. 2021, section 3.2). Everything in a block but the attention works on
single tokens, so their order is free: here each block takes the tokens from the order of the last block's
windows straight into that of its own, by one Gather of whole rows.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

_Order = Tensor  # (T,) int64: the raster position (row by row) of each token


class WindowOrderedSwin(nn.Module):
    """timm's `SwinTransformer`: pixels (N, 3, H, W) → pooled features (N, C)."""

    def __init__(self, swin: Any, attention: Callable[[Any], nn.Module]) -> None:
        super().__init__()
        self.patch_embed, self.norm, self.head = swin.patch_embed, swin.norm, swin.head
        self.blocks = nn.ModuleList()
        order = torch.arange(_area(swin.layers[0].blocks[0].input_resolution))
        for stage in swin.layers:
            for block in stage.blocks:
                target = window_order(block)
                merging = stage.downsample if block is stage.blocks[0] else nn.Identity()
                if isinstance(merging, nn.Identity):
                    self.blocks.append(_Block(block, attention, _moves(order, target)))
                else:
                    merged = _merged_rows(target, block.input_resolution)  # (T, 4) positions before merging
                    rows = _moves(order, merged.reshape(-1))
                    self.blocks.append(_MergingBlock(block, attention, rows, merging))
                order = target
        self.tokens = _area(swin.layers[0].blocks[0].input_resolution)
        self.register_buffer("to_raster", _moves(order, torch.arange(len(order))), persistent=False)
        self.grid = tuple(swin.layers[-1].blocks[-1].input_resolution)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patch_embed(pixel_values)
        x = x.reshape(-1, self.tokens, self.blocks[0].channels)  # (N, T, C) in raster order
        for block in self.blocks:
            x = block(x)
        x = self.norm(_gathered(x, cast(Tensor, self.to_raster)))
        return cast(Tensor, self.head(x.unflatten(1, self.grid)))


class _Block(nn.Module):
    """One Swin block on tokens (N, T, C) that come in the last block's order."""

    def __init__(self, block: Any, attention: Callable[[Any], nn.Module], rows: Tensor) -> None:
        super().__init__()
        self.norm1, self.norm2, self.mlp = block.norm1, block.norm2, block.mlp
        self.attention = attention(block.attn)
        self.window, self.tokens, self.channels = (
            int(block.window_area),
            _area(block.input_resolution),
            block.dim,
        )
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("bias", _bias(block), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.mixed(_gathered(x, cast(Tensor, self.rows)))

    def mixed(self, x: Tensor) -> Tensor:
        """Attention and MLP on tokens in this block's order, (N, T, C) → (N, T, C)."""
        bias = cast(Tensor, self.bias)  # (1 or windows, heads, L, L)
        if len(bias) > 1:  # the operator wants one bias for all, or one for each
            bias = bias.repeat(x.shape[0], 1, 1, 1)
        windows = x.reshape(-1, self.window, self.channels)
        windows = windows + self.attention(self.norm1(windows), bias)
        windows = windows + self.mlp(self.norm2(windows))
        return cast(Tensor, windows.reshape(-1, self.tokens, self.channels))


class _MergingBlock(_Block):
    """The first block of a stage: 2 × 2 tokens (N, 4 T, C) become one of (N, T, 2 C) before it."""

    def __init__(self, block: Any, attention: Callable[[Any], nn.Module], rows: Tensor, merging: Any) -> None:
        super().__init__(block, attention, rows)
        self.merging_norm, self.reduction = merging.norm, merging.reduction

    def forward(self, x: Tensor) -> Tensor:
        x = _gathered(x, cast(Tensor, self.rows))
        merged = x.reshape(-1, self.tokens, self.merging_norm.normalized_shape[0])
        return self.mixed(self.reduction(self.merging_norm(merged)))


def can_be_window_ordered(swin: Any) -> bool:
    """Whether every feature map divides into windows and into 2 × 2 tokens, with fixed masks."""
    for i, stage in enumerate(swin.layers):
        for block in stage.blocks:
            fits = all(n % w == 0 for n, w in zip(block.input_resolution, block.window_size, strict=True))
            if not fits or block.dynamic_mask:
                return False
        if i + 1 < len(swin.layers) and any(n % 2 for n in stage.blocks[0].input_resolution):
            return False
    return True


def window_order(block: Any) -> _Order:
    """Raster positions of a block's tokens, window by window, (T,)."""
    height, width = block.input_resolution
    window_height, window_width = block.window_size
    grid = torch.arange(height * width).view(height, width)
    shifted = torch.roll(grid, tuple(-one for one in block.shift_size), (0, 1))
    cut = shifted.view(height // window_height, window_height, width // window_width, window_width)
    return cut.transpose(1, 2).reshape(-1)


def _bias(block: Any) -> Tensor:
    """Relative position bias plus the mask of shifted windows, (1 or windows, heads, L, L)."""
    bias: Tensor = block.attn._get_rel_pos_bias().detach()  # (1, heads, L, L)
    return bias if block.attn_mask is None else bias + block.attn_mask.unsqueeze(1)


def _merged_rows(target: _Order, resolution: tuple[int, int]) -> Tensor:
    """For each merged token the raster positions of its four parts on the finer grid, (T, 4), in timm's order."""
    row, column = target // resolution[1], target % resolution[1]
    parts = [(2 * row + i) * (2 * resolution[1]) + 2 * column + j for j in (0, 1) for i in (0, 1)]
    return torch.stack(parts, 1)


def _moves(order: _Order, target: _Order) -> Tensor:
    """Which row of tokens in `order` each token of `target` is, (T,)."""
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    return place[target]


def _gathered(x: Tensor, rows: Tensor) -> Tensor:
    """x (N, T, C) with its tokens taken in the order of `rows`; no node where nothing would move."""
    return x if torch.equal(rows, torch.arange(x.shape[1])) else x[:, rows]


def _area(resolution: tuple[int, int]) -> int:
    return resolution[0] * resolution[1]
