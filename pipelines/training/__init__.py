"""All that decides a network's weights: networks, augmentation, batches, optimizer, distillation, fit."""
