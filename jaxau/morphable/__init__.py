"""A linear shape model of the face: identity, Action Units, landmarks, camera."""
