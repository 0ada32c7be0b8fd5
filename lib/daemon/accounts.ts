/**
 * Users and groups by name or number, as /etc/passwd and /etc/group have them. Called when options become a plan. Accounts
 * of a network's directory are in neither: those are given by number, user and group both.
 */
import { readFileSync } from 'node:fs';
import { invalidOption, nearest } from '../sys/errors.ts';
import { EXIT } from './exit-codes.ts';

export interface Identity {
  uid: number | null;
  gid: number | null;
  groups: number[] | null;
}

interface Files {
  passwd: string;
  group: string;
}

interface Account {
  name: string;
  id: number;
  /** Of a user. */
  gid: number;
  /** Of a group. */
  members: string[];
  /** Of a user. */
  home: string;
  shell: string;
}

const HIGHEST_ID = 0xffff_fffe;

/**
 * Whom processes of ours shall become, refused here when we may not make them that: not after everything has been
 * started. Null is who we are.
 */
export function becoming(
  user: string | number | undefined,
  group: string | number | undefined,
  spell: (option: string) => string,
): Identity {
  const wanted = identity(user, group, spell);
  if (process.geteuid?.() === 0) return wanted;
  const same = (id: number | null, own: number | undefined) => id === null || id === own;
  if (!same(wanted.uid, process.getuid?.()))
    throw invalidOption('user', `${spell('user')}: only root can become '${user}'`, EXIT.noPermission);
  if (!same(wanted.gid, process.getgid?.()))
    throw invalidOption('group', `${spell('group')}: only root can change its group`, EXIT.noPermission);
  return { uid: null, gid: null, groups: null };
}

/** What the tables of accounts say of them. `spell` gives an option's name as its user wrote it. */
export function identity(
  user: string | number | undefined,
  group: string | number | undefined,
  spell: (option: string) => string,
  files: Files = { passwd: '/etc/passwd', group: '/etc/group' },
): Identity {
  if (user === undefined && group === undefined) return { uid: null, gid: null, groups: null };
  const groups = table(files.group);
  const gid = group === undefined ? undefined : idOf(group, groups, 'group', spell);
  if (user === undefined) return { uid: null, gid: gid as number, groups: null };
  const users = table(files.passwd);
  const uid = idOf(user, users, 'user', spell);
  const account = users.find(({ id }) => id === uid);
  const primary = gid ?? account?.gid;
  if (primary === undefined)
    throw invalidOption(
      'group',
      `${spell('user')}: ${uid} has no entry in ${files.passwd}, so ${spell('group')} must say which group goes with it`,
    );
  const supplementary = groups
    .filter(({ members }) => account !== undefined && members.includes(account.name))
    .map(({ id }) => id);
  return { uid, gid: primary, groups: [...new Set([primary, ...supplementary])] };
}

/** What a login tells a program of the account that it runs as. */
export const LOGIN = ['HOME', 'USER', 'LOGNAME', 'SHELL'] as const;

/** Of a user that there is. Without an entry nothing is known, and a shell that lets nobody in is none. */
export function loginOf(user: string | number, file = '/etc/passwd'): Record<string, string> {
  const users = table(file);
  const account =
    users.find(({ name }) => name === String(user)) ?? users.find(({ id }) => id === Number(user));
  if (account === undefined) return {};
  const { name, home, shell } = account;
  const isShell = shell !== '' && !/\/(nologin|false)$/.test(shell);
  return { USER: name, LOGNAME: name, ...(home && { HOME: home }), ...(isShell && { SHELL: shell }) };
}

function idOf(
  wanted: string | number,
  accounts: readonly Account[],
  option: 'user' | 'group',
  spell: (option: string) => string,
): number {
  // A name that is a number is found by name first, as chown(1) does.
  const named = accounts.find(({ name }) => name === String(wanted));
  if (named !== undefined) return named.id;
  if (/^\d+$/.test(String(wanted)) && Number(wanted) <= HIGHEST_ID) return Number(wanted);
  const near = nearest(
    String(wanted),
    accounts.map(({ name }) => name),
  );
  const hint = near === undefined ? '' : `; did you mean '${near}'?`;
  throw invalidOption(option, `${spell(option)}: there is no ${option} '${wanted}'${hint}`);
}

/** The lines of passwd(5) and group(5) alike: name, password, number, and what comes then. */
function table(file: string): Account[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    // Minimal images have no such file, and numbers still work.
    return [];
  }
  return text.split('\n').flatMap((line) => {
    const [name = '', , id = '', fourth = '', , home = '', shell = ''] = line.split(':');
    if (name === '' || !/^\d+$/.test(id)) return [];
    return [{ name, id: Number(id), gid: Number(fourth), members: fourth.split(','), home, shell }];
  });
}
