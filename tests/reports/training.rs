//! Text for training.
