"""The method on tensors, without models or files: score, select, cast, compensate. Open `one_pass` first."""
