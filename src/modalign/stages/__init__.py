"""How to train: one LightningModule a stage, and the curriculum's DataModule."""
