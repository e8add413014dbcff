// Browser notifications of jobs that have ended, if the user wants them.

import { announce, h } from './dom.js';
import { hasEnded } from './words.js';

const KEY = 'crestline-notify';
/** Whether the user is to be told; then also a hidden tab watches. */
export const isWanted = () => localStorage.getItem(KEY) === 'yes' && globalThis.Notification?.permission === 'granted';

/** A switch; null where the browser has no notifications, which it has in secure contexts only. */
export function notifySwitch() {
  if (!globalThis.Notification || !globalThis.isSecureContext) return null;
  const box = h('input', { type: 'checkbox', checked: isWanted(), onchange: async () => {
    const granted = box.checked && await Notification.requestPermission() === 'granted';
    if (box.checked && !granted) announce('Your browser refuses notifications of this page. Allow them in its settings.', true);
    box.checked = granted;
    localStorage.setItem(KEY, granted ? 'yes' : 'no');
  } });
  return h('label', {}, box, ' Notify me when a job ends');
}

/** Show that a job has ended, once for all tabs; a click leads to it. `before` is how the page knew it, if it did. */
export function notifyEnd(before, job, address) {
  if (!before || hasEnded(before) || !hasEnded(job) || !isWanted()) return;
  const shown = new Notification(`${job.name}: ${job.status.state}`, { body: `Job ${job.jobId}`, tag: address, icon: 'page/icon.svg' });
  shown.addEventListener('click', () => {
    window.focus();
    location.hash = address;
  });
}
