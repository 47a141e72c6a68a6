import { en, type TextKey } from './en';
import { zh } from './zh';
import { recall, remember } from '../state/storage';

export type { TextKey };

const TABLES = { en, zh };
export type Language = keyof typeof TABLES;
export const LANGUAGES: { id: Language; name: string }[] = [
  { id: 'en', name: 'English' },
  { id: 'zh', name: '简体中文' },
];

function preferred(): Language {
  const kept = recall<Language>('language');
  if (kept && kept in TABLES) return kept;
  return navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}

class Words {
  language = $state<Language>(preferred());

  choose(language: Language) {
    this.language = language;
    remember('language', language);
  }
}

export const words = new Words();

/** The text for a key in the chosen language; `{name}` in it stands for a value. */
export function t(key: TextKey, values: Record<string, string | number> = {}): string {
  return TABLES[words.language][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** The tag for `lang` and for the formatting of numbers and dates. */
export const locale = () => (words.language === 'zh' ? 'zh-CN' : 'en');

/** A duration that may be off by a little: seconds, or minutes from 100 seconds on. */
export function duration(ms: number): string {
  const seconds = Math.max(1, Math.round(ms / 1000));
  return seconds < 100
    ? t('time.seconds', { count: seconds })
    : t('time.minutes', { count: Math.round(seconds / 60) });
}
