"""Raw UMI sessions: videos of hand-held grippers with what SLAM and calibration wrote beside them."""
