"""The models of the paper: vision encoders, projector, language models, and the multimodal model of the
three.

Letters of shapes, here and in ``granvit.training``:

- B images, or packed rows; V views of all images together (global views and tiles; V = B without tiling);
  n tiles a side; S side of a view in pixels; H, W height and width, in pixels or cells of a feature map
- T tokens of a view, or of an image once its views are joined; C channels of the encoder's features
- L positions of a row, text and image; P those in front of the image; N supervised tokens; D channels of the
  language model's embeddings
- Q questions; I images that questions are about; R regions
"""
