"""Self-attention of timm's transformers as onnxruntime's fused MultiHeadAttention operator.

No optimizer recognizes attention in the graphs of ViT or Swin (MEASURED), so the modules are exchanged before
the graph is made: they compute the same in torch and become one node when exported. Swin's windows are
`window_order.py`; attention of BERT-like encoders is recognized by `optimize.py`.
"""

import copy
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowclip_export.window_order import WindowOrderedSwin, can_be_window_ordered


class MultiHeadAttention(torch.autograd.Function):
    """softmax(q kᵀ / √d + bias) v over heads: q, k, v (N, L, C), bias (1 or N, heads, L, L) → (N, L, C)."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, heads: int) -> Tensor:
        n, length, channels = q.shape
        q, k, v = (one.view(n, length, heads, channels // heads).transpose(1, 2) for one in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)  # (N, heads, L, C / heads)
        return mixed.transpose(1, 2).reshape(n, length, channels)

    @staticmethod
    def symbolic(g: Any, q: Any, k: Any, v: Any, bias: Any, heads: int) -> Any:
        """The node that the TorchScript exporter writes."""
        inputs = [q, k, v]
        if bias is not None:
            absent = g.op("prim::Constant")
            absent.setType(torch._C.OptionalType.ofTensor())
            inputs += [absent, absent, bias]
        node = g.op("com.microsoft::MultiHeadAttention", *inputs, num_heads_i=heads)
        node.setType(q.type())
        return node


class SelfAttention(nn.Module):
    """timm's `Attention` or `WindowAttention` with one product each for query, key and value.

    Shares its parameters with the module it is made from.

    Args:
        fused: export one MultiHeadAttention node; else products and a softmax, which every runtime knows.
    """

    def __init__(self, attention: Any, *, fused: bool = True) -> None:
        super().__init__()
        self.fused = fused
        self.heads = int(attention.num_heads)
        biases = [None] * 3 if attention.qkv.bias is None else attention.qkv.bias.chunk(3)
        self.q, self.k, self.v = (
            _linear(weight, bias) for weight, bias in zip(attention.qkv.weight.chunk(3), biases, strict=True)
        )
        self.proj = attention.proj

    def forward(
        self, x: Tensor, bias: Tensor | None = None, attn_mask: None = None, is_causal: bool = False
    ) -> Tensor:
        """x (N, L, C), bias (1 or N, heads, L, L) → (N, L, C); the last two are timm's and must stay unused."""
        if attn_mask is not None or is_causal:
            raise ValueError("an image encoder's attention takes no mask")
        attend = cast(Any, MultiHeadAttention.apply) if self.fused else _attend
        return cast(Tensor, self.proj(attend(self.q(x), self.k(x), self.v(x), bias, self.heads)))


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, heads: int) -> Tensor:
    """What `MultiHeadAttention` computes, step by step."""
    _, length, channels = q.shape
    q, k, v = (one.reshape(-1, length, heads, channels // heads).transpose(1, 2) for one in (q, k, v))
    scores = q * (channels // heads) ** -0.5 @ k.transpose(-2, -1)  # (N, heads, L, L)
    weights = (scores if bias is None else scores + bias).softmax(-1)
    mixed: Tensor = (weights @ v).transpose(1, 2).reshape(-1, length, channels)
    return mixed


def with_fused_attention(tower: nn.Module) -> nn.Module:
    """The same function with fused attention wherever it is known; `tower` stays as it is.

    Parameters are shared, not copied.
    """
    return _rebuilt(tower, fused=True)


def with_standard_attention(tower: nn.Module) -> nn.Module:
    """The same for standard operators: attention stays as it is but for Swin's windows, put in order."""
    return _rebuilt(tower, fused=False)


def _rebuilt(tower: nn.Module, *, fused: bool) -> nn.Module:
    from timm.layers.attention import Attention
    from timm.models.swin_transformer import SwinTransformer

    rebuilt = copy.deepcopy(tower, {id(one): one for one in [*tower.parameters(), *tower.buffers()]})
    for module in list(rebuilt.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Attention) and fused and _is_plain(child):
                setattr(module, name, SelfAttention(child))
            elif isinstance(child, SwinTransformer) and can_be_window_ordered(child):
                setattr(module, name, WindowOrderedSwin(child, partial(SelfAttention, fused=fused)))
    return rebuilt


def _is_plain(attention: Any) -> bool:
    """Without the options that the fused operator does not know."""
    return (
        isinstance(attention.q_norm, nn.Identity)
        and isinstance(attention.k_norm, nn.Identity)
        and isinstance(attention.norm, nn.Identity)
        and attention.gate is None
    )


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear
