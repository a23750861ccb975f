"""Networks: plain `torch.nn.Module`s that know nothing of the rest of the package."""
