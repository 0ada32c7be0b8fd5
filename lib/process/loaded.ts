/** Whether a module of Node's own was loaded: if not, a forked child has nothing of it to put right. */
export function isLoaded(name: string): boolean {
  const { moduleLoadList } = process as unknown as { moduleLoadList: string[] };
  return moduleLoadList.includes(`NativeModule ${name}`);
}
