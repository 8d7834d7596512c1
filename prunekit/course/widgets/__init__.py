"""Pictures with controls. Each function returns a `LiveFigure`, which also shows where no kernel runs."""

from ...system.lazy import make_lazy

make_lazy(__name__, {name: name for name in ("ewma_replay", "mask_explorer", "fp8_bits", "trade_off")})
