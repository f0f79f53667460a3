//! Archives, compressed files and columnar files.
