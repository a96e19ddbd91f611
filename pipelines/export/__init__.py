"""Networks to what serves them: ONNX, LiteRT and a bento."""
