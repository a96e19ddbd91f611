"""The releases: their ledger, promotion and rollback, by the gate or by a maintainer, and MLflow brought into line."""
