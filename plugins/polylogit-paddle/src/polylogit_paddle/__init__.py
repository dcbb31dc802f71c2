"""PaddlePaddle tensors in polylogit; nothing is imported before one of them arrives."""
