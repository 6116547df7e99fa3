"""Parts of HTML pages that the atlas and explanations share: templates, plots, pictures, files."""
