"""The data of cases: rows and cotangents, memory layouts, and the one-line notation of a call."""
