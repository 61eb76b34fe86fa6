"""The doctor: finds what crashes, kills and half-done writes left behind, and mends it."""

from voltscreen.campaign.doctor.examine import Diagnosis, examine
from voltscreen.campaign.doctor.finding import Finding, Kind, Patient

__all__ = ["Diagnosis", "Finding", "Kind", "Patient", "examine"]
