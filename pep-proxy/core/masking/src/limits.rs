//! How much of a result is held at once.

/// Limits of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest head of an Arrow message (schema or batch), in bytes.
    pub head_bytes_max: usize,
    /// Largest body of an Arrow record batch, in bytes, before and after masking.
    pub body_bytes_max: usize,
    /// Most rows in an Arrow record batch.
    pub batch_rows_max: usize,
    /// Longest cell that is masked, in bytes as sent; a longer one is redacted whole.
    pub cell_bytes_max: usize,
}

impl Default for Limits {
    /// A head of 4 MiB, a body of 256 MiB, four million rows a batch, a cell of 16 MiB.
    fn default() -> Self {
        Self { head_bytes_max: 4 << 20, body_bytes_max: 256 << 20, batch_rows_max: 4 << 20, cell_bytes_max: 16 << 20 }
    }
}
