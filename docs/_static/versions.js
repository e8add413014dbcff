// A list of the versions of this documentation, where it is published beside others (tools/release/site.py).
(async () => {
  const root = new URL(document.documentElement.dataset.content_root ?? './', document.baseURI);
  const answer = await fetch(new URL('../versions.json', root)).catch(() => null);
  if (!answer?.ok) return;
  const { newest, versions } = await answer.json();
  const current = root.pathname.split('/').at(-2);
  const select = document.createElement('select');
  select.setAttribute('aria-label', 'Version of the documentation');
  select.className = 'versions';
  for (const version of versions) {
    const text = version === newest ? `${version} (newest)` : version;
    select.add(new Option(text, version, false, version === current));
  }
  const page = location.href.slice(root.href.length);
  select.addEventListener('change', async () => {
    const same = new URL(`../${select.value}/${page}`, root);
    const found = await fetch(same, { method: 'HEAD' }).catch(() => null);
    location.href = found?.ok ? same : new URL(`../${select.value}/`, root);
  });
  document.querySelector('.sidebar-brand')?.after(select);
})();
