"""Results for people: tables, figures, dossiers and reports."""
