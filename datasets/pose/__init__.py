"""Human pose: LSP, LSP extended and Image Parse."""
