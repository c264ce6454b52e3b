package drivers

import "errors"

// imageRef is a parsed image reference.
type imageRef struct{ registry, repository, tag, digest string }

func parseImage(image string) (imageRef, error) {
	if image == "" {
		return imageRef{}, errors.New("is required")
	}
	return imageRef{registry: "docker.io", repository: image}, nil
}
