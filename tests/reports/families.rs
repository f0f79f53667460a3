//! Hugging Face configurations.
