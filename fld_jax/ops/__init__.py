"""Operations on arrays; each is tested against an independent oracle."""
