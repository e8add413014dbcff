// The page at /docs: Swagger UI for the document that the script's own element names.
SwaggerUIBundle({
  url: document.currentScript.dataset.document,
  dom_id: "#docs",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
