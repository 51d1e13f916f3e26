"""The torch operators of the students' programs, as sets that the targets share."""

from __future__ import annotations


def _aten(names: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in names.split())


EVERYWHERE = _aten(
    "add.Tensor add_.Tensor alias.default cat.default clamp.default contiguous.default dropout.default "
    "expand.default gelu.default index_select.default leaky_relu.default leaky_relu_.default linear.default "
    "mul.Tensor ones.default pad.default permute.default reshape.default select.int slice.Tensor softmax.int "
    "sub.Tensor transpose.int unsqueeze.default zeros.default"
)
"""Operators that every target takes."""
IN_PLANES = _aten("conv2d.default conv_transpose2d.input")
"""Convolutions of a program on planes."""
IN_VOLUMES = _aten("conv3d.default conv_transpose3d.input")
"""Convolutions of a program on volumes."""
NORMS = _aten("instance_norm.default layer_norm.default matmul.default")
"""Norms and the product of matrices of any rank, as they stand in the student."""
FUSED_ATTENTION = _aten("scaled_dot_product_attention.default")
"""One operator for attention."""
OF_MONAI = _aten(
    "batch_norm.default einsum.default elu_.default feature_dropout.default flatten.using_ints "
    "group_norm.default max_pool3d.default prelu.default relu.default relu_.default repeat.default "
    "sigmoid.default upsample_trilinear3d.vec view.default"
)
"""What MONAI's UNet, SegResNet, BasicUNet, AttentionUnet, VNet and UNETR have besides."""
SHUFFLED = _aten("conv2d.default pixel_shuffle.default")
"""Convolutions of a program on planes without transposed ones."""
WRITTEN_OUT = _aten("bmm.default mean.dim rsqrt.default")
"""Parts of norms and of attention that are written out."""
