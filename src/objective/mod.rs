//! What the loss is. An objective takes the model and a batch and gives the loss as a tensor.

pub mod causal;
pub mod router;
