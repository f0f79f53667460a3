//! Raw documents: HTML, JSON and what comes of them.
